"""What all pages share behind the drawing: models, the job queue, results, facts of the workspace."""
