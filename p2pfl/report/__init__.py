"""Rounds as files people take elsewhere: tables and plots. Pure: rows go in, text comes out."""
