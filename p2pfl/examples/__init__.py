"""Programs to copy and change; README.md beside this file says what each shows."""
