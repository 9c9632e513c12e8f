package worker

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	agentv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1"
)

var errCurve = errors.New("worker: SigningKey must be on P-256")

func signable(key *ecdsa.PrivateKey) error {
	if key != nil && key.Curve != elliptic.P256() {
		return errCurve
	}
	return nil
}

// sign signs a packet; without a key it stays as it is. docs/AGENT_PROTOCOL.md says what is signed.
func sign(p *agentv1.BusPacket, key *ecdsa.PrivateKey) error {
	if key == nil {
		return nil
	}
	p.Signature = nil
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(p)
	if err != nil {
		return fmt.Errorf("sign packet: %w", err)
	}
	digest := sha256.Sum256(raw)
	p.Signature, err = ecdsa.SignASN1(rand.Reader, key, digest[:])
	return err
}
