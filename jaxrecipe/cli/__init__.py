"""What the command line needs besides arguments: finding a task, showing progress, the pages of checks."""
