"""What several checks measure, and none of them judges."""
