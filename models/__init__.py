"""`har-models`: data sets to windows, networks, training, evaluation; and the shipped bundles."""
