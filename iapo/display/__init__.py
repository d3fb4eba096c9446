"""What commands print and plot: text, tables, figures, heat maps."""
