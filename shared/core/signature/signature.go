// Package signature checks who signed a packet, where an operator has said whose signatures to expect. The signature is ECDSA (P-256, ASN.1 DER)
// of the SHA-256 of the packet's canonical bytes: every field but the signature in the order of the numbers, maps in the order of their keys.
package signature

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	agentv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1"
)

// Keys are the public keys of senders, by sender_id. Without any nothing is checked.
type Keys map[string]*ecdsa.PublicKey

// Parse reads {"<sender_id>": "<public key, PEM>"}; "" is no keys.
func Parse(text string) (Keys, error) {
	if text == "" {
		return nil, nil
	}
	var spelled map[string]string
	if err := json.Unmarshal([]byte(text), &spelled); err != nil {
		return nil, errors.New(`it is not {"<sender_id>": "<public key, PEM>"}`)
	}
	keys := Keys{}
	for sender, text := range spelled {
		block, _ := pem.Decode([]byte(text))
		if block == nil {
			return nil, fmt.Errorf("the key of sender %q is not PEM", sender)
		}
		parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
		key, ok := parsed.(*ecdsa.PublicKey)
		if err != nil || !ok || key.Curve != elliptic.P256() {
			return nil, fmt.Errorf("the key of sender %q is not an ECDSA public key on P-256", sender)
		}
		keys[sender] = key
	}
	return keys, nil
}

// What is wrong with a packet.
var (
	ErrUnknownSender = errors.New("signature: no key is known of the packet's sender")
	ErrInvalid       = errors.New("signature: the packet is not signed with the key of its sender")
)

// Check says whether a packet is signed by its sender, or nothing is checked.
func (k Keys) Check(p *agentv1.BusPacket) error {
	if len(k) == 0 {
		return nil
	}
	key := k[p.GetSenderId()]
	if key == nil {
		return ErrUnknownSender
	}
	unsigned := proto.CloneOf(p)
	unsigned.Signature = nil
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(unsigned)
	if err != nil {
		return ErrInvalid
	}
	digest := sha256.Sum256(raw)
	if !ecdsa.VerifyASN1(key, digest[:], p.GetSignature()) {
		return ErrInvalid
	}
	return nil
}
