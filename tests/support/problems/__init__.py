"""Published problems for second-order solvers: curve fits with certified answers (`nist`), sums of squares (`mgh`)."""
