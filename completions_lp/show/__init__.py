"""What people look at: text, figures, the page, the notebook."""
