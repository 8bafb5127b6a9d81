"""What a check concludes, without any check in it: measures, findings, and the one table of causes."""
