// Package secrets is the adapter of secrets to Secrets Manager.
package secrets

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/cordum-serverless/cordum/shared/platform/secret"
)

// Source reads the secrets of Secrets Manager that CORDUM_SECRET names, by their names or ARNs with commas between: each is a JSON object of
// environment variables and their values. It is nil when the environment names none. Its errors never quote what is in a secret.
func Source(cfg sdk.Config, getenv func(string) string) secret.Source {
	names := getenv("CORDUM_SECRET")
	if names == "" {
		return nil
	}
	client := secretsmanager.NewFromConfig(cfg)
	return func(ctx context.Context) (map[string]string, error) {
		all := map[string]string{}
		for id := range strings.SplitSeq(names, ",") {
			values, err := read(ctx, client, id)
			if err != nil {
				return nil, err
			}
			maps.Copy(all, values)
		}
		return all, nil
	}
}

func read(ctx context.Context, client *secretsmanager.Client, id string) (map[string]string, error) {
	res, err := client.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: &id})
	if err != nil {
		return nil, fmt.Errorf("secret %s: %w", id, err)
	}
	var values map[string]string
	if res.SecretString == nil || json.Unmarshal([]byte(*res.SecretString), &values) != nil {
		return nil, errors.New("secret " + id + " is not a JSON object of texts, such as {\"CORDUM_API_KEYS\": \"...\"}")
	}
	return values, nil
}
