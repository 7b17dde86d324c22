"""How good it is: pure functions of arrays, checked against scikit-learn in the tests."""
