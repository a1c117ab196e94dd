"""From files to what a model finds in them: inputs, the model, outputs, and the record by which a run goes on."""
