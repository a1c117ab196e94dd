"""Trained models side by side on the same images: who is measured on what, how they differ, who is champion."""
