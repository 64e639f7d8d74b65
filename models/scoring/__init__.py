"""Figures: of windows, of streams, of varied recordings and unworn watches, over seeds and people."""
