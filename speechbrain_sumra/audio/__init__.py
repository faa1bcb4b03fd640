"""Audio files: read, resampled, and cut where nobody speaks."""
