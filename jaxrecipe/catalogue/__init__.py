"""Silent faults that people make, each as a function that plants it in a healthy set-up, beside healthy controls.

One catalogue for the demonstration, the tests and the benchmark. `import jaxrecipe` does not load it.
"""
