"""The dashboard: cached models, jobs, and what pages draw with."""
