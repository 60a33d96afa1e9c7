"""Bot and local exchange in one run, with an auditor that judges it."""
