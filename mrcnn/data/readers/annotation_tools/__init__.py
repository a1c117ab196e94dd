"""Read the files of annotation tools; one module per tool."""
