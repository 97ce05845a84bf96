"""Small trained models that ship with Backline, each beside its provenance and a golden input and output."""
