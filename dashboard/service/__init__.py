"""What all pages share behind the drawing: models, results, facts of the workspace."""
