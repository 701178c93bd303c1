module embedding-operator.invalid/cluster/pause

go 1.26.0
