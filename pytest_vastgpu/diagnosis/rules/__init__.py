"""What is known of causes, one module for each subject. A rule is data: a pattern, a failure class and a reason."""
