"""Compare trained models on test images that none of them has seen, and select the champion."""
