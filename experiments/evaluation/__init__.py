"""The paper's evaluation on the world with known truth: data sets, thresholds, tables, plots and the page of results."""
