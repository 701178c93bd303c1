// openai-go, as an injected application has it: it reads OPENAI_BASE_URL and OPENAI_API_KEY.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"embedding-operator.test/clients/asked"
	"github.com/openai/openai-go/v3"
)

var client = openai.NewClient()

func main() {
	asked.Answer(embed, show)
}

func embed(request asked.Request, alone bool) ([][]float64, error) {
	input, err := inputs(request, alone)
	if err != nil {
		return nil, err
	}
	params := openai.EmbeddingNewParams{
		Model:          request.Model,
		Input:          input,
		EncodingFormat: openai.EmbeddingNewParamsEncodingFormat(request.Format),
	}
	if request.Dimensions > 0 {
		params.Dimensions = openai.Int(request.Dimensions)
	}
	answer, err := client.Embeddings.New(context.Background(), params)
	if err != nil {
		return nil, err
	}
	found := make([][]float64, 0, len(answer.Data))
	for _, row := range answer.Data {
		found = append(found, row.Embedding)
	}
	return found, nil
}

func inputs(request asked.Request, alone bool) (input openai.EmbeddingNewParamsInputUnion, err error) {
	all, err := json.Marshal(request.Inputs)
	if err != nil {
		return input, err
	}
	if alone {
		all = request.Inputs[0]
	}
	return input, json.Unmarshal(all, &input)
}

func show(err error) asked.Refused {
	var refused *openai.Error
	if !errors.As(err, &refused) {
		return asked.Refused{Type: fmt.Sprintf("%T", err), Message: err.Error()}
	}
	return asked.Refused{
		Type:    "*openai.Error",
		Status:  refused.StatusCode,
		Code:    refused.Code,
		Message: refused.Message,
	}
}
