"""What came out, as a page with tables, plots and contact sheets."""
