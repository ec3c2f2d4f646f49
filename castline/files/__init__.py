"""What stages read and write, a module for each form: parameters, tables, tensors, weights, metrics, bundles."""
