"""Reports on committed rounds as tables and plots. Pure: rows go in, text comes out."""
