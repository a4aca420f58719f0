module kadwire/versus

go 1.25.0
