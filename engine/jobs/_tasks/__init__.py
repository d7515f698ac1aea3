"""What is registered: functions with their settings, routes, hooks."""
