"""Figures: of windows, of streams, of varied recordings and unworn watches; of recipes over seeds, folds and people."""
