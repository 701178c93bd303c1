// Go's own net/http, for an application that writes the request by hand.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"

	"embedding-operator.test/clients/asked"
)

type refusedError struct {
	status  int
	Code    string `json:"code"`
	Message string `json:"message"`
}

func (e *refusedError) Error() string { return e.Message }

type answer struct {
	Error *refusedError `json:"error"`
	Data  []struct {
		Embedding []float64 `json:"embedding"`
	} `json:"data"`
}

// What waits for 100-continue is sent after it, or after a second without one: net/http's default.
var client = http.Client{Transport: http.DefaultTransport}

func main() {
	asked.Answer(embed, func(err error) asked.Refused {
		var refused *refusedError
		if !errors.As(err, &refused) {
			return asked.Refused{Type: "error", Message: err.Error()}
		}
		return asked.Refused{
			Type: "status", Status: refused.status, Code: refused.Code, Message: refused.Message,
		}
	})
}

func embed(request asked.Request, alone bool) ([][]float64, error) {
	asks := map[string]any{"model": request.Model, "input": request.Inputs}
	if alone {
		asks["input"] = request.Inputs[0]
	}
	if request.Dimensions > 0 {
		asks["dimensions"] = request.Dimensions
	}
	text, err := json.Marshal(asks)
	if err != nil {
		return nil, err
	}
	var body io.Reader = bytes.NewReader(text)
	if request.Body == "chunked" {
		// Of a reader that is none of its own, net/http knows no length: it sends chunks.
		body = io.MultiReader(body)
	}
	url := os.Getenv("OPENAI_BASE_URL") + "/embeddings"
	post, err := http.NewRequest(http.MethodPost, url, body)
	if err != nil {
		return nil, err
	}
	post.Header.Set("Authorization", "Bearer "+os.Getenv("OPENAI_API_KEY"))
	post.Header.Set("Content-Type", "application/json")
	if request.Body == "expect" {
		post.Header.Set("Expect", "100-continue")
	}
	return do(post)
}

func do(post *http.Request) ([][]float64, error) {
	answered, err := client.Do(post)
	if err != nil {
		return nil, err
	}
	defer answered.Body.Close()
	var found answer
	if err := json.NewDecoder(answered.Body).Decode(&found); err != nil {
		return nil, err
	}
	if found.Error != nil {
		found.Error.status = answered.StatusCode
		return nil, found.Error
	}
	if _, err := io.Copy(io.Discard, answered.Body); err != nil {
		return nil, err
	}
	vectors := make([][]float64, 0, len(found.Data))
	for _, row := range found.Data {
		vectors = append(vectors, row.Embedding)
	}
	return vectors, nil
}
