"""`iapo report`: one HTML file from run folders (docs/report.md). No torch here."""
