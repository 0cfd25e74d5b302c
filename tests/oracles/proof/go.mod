module sealstream.example/oracles/proof

go 1.26.0
