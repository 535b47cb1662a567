"""The known causes, one module for each subject. A rule is data: a pattern, a failure class and a reason."""
