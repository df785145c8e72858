"""Enrolment: a device joins a federation with a few spoken words, and gets its certificate."""
