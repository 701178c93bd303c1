// Package asked is what the programs of this folder share: requests on standard input, outcomes
// on standard output. Their form is that of tests/clients/python/asked.py.
package asked

import (
	"encoding/json"
	"os"
	"runtime"
	"sync"
)

// Request is one case.
type Request struct {
	Case       string            `json:"case"`
	How        string            `json:"how"`
	Model      string            `json:"model"`
	Inputs     []json.RawMessage `json:"inputs"`
	Dimensions int64             `json:"dimensions"`
	Format     string            `json:"format"`
	Body       string            `json:"body"`
}

// Refused is what the client's own error says.
type Refused struct {
	Type    string `json:"type"`
	Status  int    `json:"status"`
	Code    string `json:"code"`
	Message string `json:"message"`
}

type outcome struct {
	Case    string      `json:"case"`
	Vectors [][]float64 `json:"vectors,omitempty"`
	Error   *Refused    `json:"error,omitempty"`
}

// Embed asks one request; alone says that its only input is no list.
type Embed func(request Request, alone bool) ([][]float64, error)

// Answer asks all requests in their order.
func Answer(embed Embed, show func(error) Refused) {
	var requests []Request
	if err := json.NewDecoder(os.Stdin).Decode(&requests); err != nil {
		panic(err)
	}
	outcomes := make([]outcome, 0, len(requests))
	for _, request := range requests {
		found, err := vectors(embed, request)
		if err != nil {
			refused := show(err)
			outcomes = append(outcomes, outcome{Case: request.Case, Error: &refused})
			continue
		}
		outcomes = append(outcomes, outcome{Case: request.Case, Vectors: found})
	}
	document := map[string]any{"runtime": runtime.Version(), "outcomes": outcomes}
	if err := json.NewEncoder(os.Stdout).Encode(document); err != nil {
		panic(err)
	}
}

func vectors(embed Embed, request Request) ([][]float64, error) {
	switch request.How {
	case "one":
		return embed(request, true)
	case "repeated":
		var found [][]float64
		for _, single := range singles(request) {
			vectors, err := embed(single, true)
			if err != nil {
				return nil, err
			}
			found = append(found, vectors...)
		}
		return found, nil
	case "threads":
		return atOnce(embed, singles(request))
	default:
		return embed(request, false)
	}
}

func atOnce(embed Embed, requests []Request) ([][]float64, error) {
	found := make([][]float64, len(requests))
	failed := make([]error, len(requests))
	var group sync.WaitGroup
	for at, request := range requests {
		group.Go(func() {
			vectors, err := embed(request, true)
			if err != nil {
				failed[at] = err
				return
			}
			found[at] = vectors[0]
		})
	}
	group.Wait()
	for _, err := range failed {
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

func singles(request Request) []Request {
	all := make([]Request, len(request.Inputs))
	for at := range request.Inputs {
		all[at] = request
		all[at].Inputs = request.Inputs[at : at+1]
	}
	return all
}
