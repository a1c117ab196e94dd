"""What stands between a model and strangers: limits, the request's form, the gate that lets so many in."""
