"""What tells whether derivatives are right: `gradients` compares them with finite differences, `anomaly` finds NaN."""
