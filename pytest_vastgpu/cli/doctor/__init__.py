"""The command ``vastgpu doctor``: looks at everything a run needs, and says what is wrong and what mends it.

Each module has the checks of one subject: functions that look, and pure functions that judge what was seen.
"""
