"""What people read and look at: model cards, charts, reports, progress."""
