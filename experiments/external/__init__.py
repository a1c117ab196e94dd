"""Evaluate a trained model on a data set that it was not trained on."""
