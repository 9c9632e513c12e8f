package dispatch

import (
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// FuzzParsePacket: a worker's message is a packet or an error, and a packet that is written and read again is the same.
func FuzzParsePacket(f *testing.F) {
	for _, seed := range []string{
		`{"attempt":2,"packet":{"senderId":"w","protocolVersion":1,"jobResult":{"jobId":"j","status":"JOB_STATUS_SUCCEEDED","executionMs":"7"}}}`,
		`{"senderId":"w","heartbeat":{"workerId":"w","pool":"p","cpuLoad":1e39}}`, `{"packet":null}`, `{"packet":[]}`, `[]`, `{"attempt":1e99}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParsePacket(text)
		if err != nil {
			return
		}
		again, err := protojson.Marshal(p.Packet)
		if err != nil {
			t.Fatal(err)
		}
		second, err := ParsePacket(`{"packet":` + string(again) + `}`)
		if err != nil || !proto.Equal(p.Packet, second.Packet) {
			t.Errorf("%s: %v, then %v, %v", text, p.Packet, second.Packet, err)
		}
	})
}

// FuzzParseToken: a worker's token names a tenant and a worker, or nobody.
func FuzzParseToken(f *testing.F) {
	for _, seed := range []string{"wt1.YQ.Yg.00", "wt1...", "wt1.%.Yg.0", "a.b.c"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if tenant, worker, ok := parseToken(text); ok && (tenant == "" || worker == "") {
			t.Errorf("%q: %q, %q", text, tenant, worker)
		}
	})
}
