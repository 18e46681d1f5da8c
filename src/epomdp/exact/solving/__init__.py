"""What `epomdp.exact.solve` is made of: first bounds, nodes and vectors in flat arrays, trials, the policy found."""
