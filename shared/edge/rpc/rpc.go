// Package rpc serves the contract's services over native gRPC: the interceptors put the same gate in front of a method that package rest
// puts in front of its route. It also holds the few words that a service says to either door: headers beside its answer.
package rpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/edge/auth"
	"github.com/cordum-serverless/cordum/shared/edge/outcome"
	"github.com/cordum-serverless/cordum/shared/platform/clock"
	"github.com/cordum-serverless/cordum/shared/platform/ids"
)

// Config is what the interceptors are made of.
type Config struct {
	// Gate admits calls.
	Gate *auth.Gate
	// Log gets one line per call, and the cause of every failure of the plane.
	Log *slog.Logger
	// Clock times calls.
	Clock clock.Clock
	// IDs makes request ids.
	IDs ids.Source
}

// Options are the interceptors as options of a grpc.Server. In this order they identify the call, admit it by the rule of its method, run
// it with an identity in its context, turn faults and panics into statuses, and log. A method without a rule is refused, except health
// checks and reflection (which the server registers only when it is switched on).
func Options(cfg Config) []grpc.ServerOption {
	d := door{cfg}
	return []grpc.ServerOption{grpc.UnaryInterceptor(d.unary), grpc.StreamInterceptor(d.stream)}
}

type door struct{ cfg Config }

func (d door) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (answer any, err error) {
	err = d.run(ctx, info.FullMethod, func(ctx context.Context) (err error) {
		answer, err = next(ctx, req)
		return err
	})
	if err != nil {
		return nil, err
	}
	return answer, nil
}

func (d door) stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	return d.run(stream.Context(), info.FullMethod, func(ctx context.Context) error {
		return d.until(ctx, info.FullMethod, func(ctx context.Context) error { return next(srv, admitted{stream, ctx}) })
	})
}

var errEnded = fault.New(fault.Unauthenticated, "unauthorized")

// reviewEvery is how often it is asked whether a stream's credential is still good: whatever lasts, such as a worker's stream, is over that soon.
const reviewEvery = 5 * time.Second

// until runs a stream no longer than the credential is good that opened it.
func (d door) until(ctx context.Context, method string, serve func(context.Context) error) error {
	if id := identity.From(ctx); id.KeyID == "" { // it is open to all
		return serve(ctx)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var reviews sync.WaitGroup
	reviews.Go(func() {
		if d.ended(ctx, method) {
			cancel(errEnded)
		}
	})
	err := serve(ctx)
	ended := errors.Is(context.Cause(ctx), errEnded)
	cancel(nil)
	reviews.Wait()
	if ended {
		return errEnded
	}
	return err
}

// ended waits until the credential of a stream is not good any more, or until the stream is over. While nobody can tell, it is good until it expires.
func (d door) ended(ctx context.Context, method string) bool {
	id := identity.From(ctx)
	rule, _ := auth.RuleOf(method)
	for {
		pause := reviewEvery
		if !id.Expires.IsZero() {
			pause = min(pause, id.Expires.Sub(d.cfg.Clock.Now()))
		}
		if clock.Pause(ctx, pause) != nil {
			return false
		}
		if !id.Expires.IsZero() && !d.cfg.Clock.Now().Before(id.Expires) {
			return true
		}
		good, err := d.cfg.Gate.Still(ctx, id.KeyID, rule, func(c auth.Credential) bool { return c.Tenant == id.Home && slices.Equal(c.Pools, id.Pools) })
		switch {
		case err != nil:
			d.cfg.Log.WarnContext(ctx, "a stream stays until it is known whether its credential is good", "request_id", id.RequestID, "key", id.KeyID, "error", err)
		case !good:
			d.cfg.Log.InfoContext(ctx, "stream ends: its credential is not good any more", "request_id", id.RequestID, "tenant", id.Home, "key", id.KeyID)
			return true
		}
	}
}

// admitted is a stream whose context has an identity.
type admitted struct {
	grpc.ServerStream
	ctx context.Context
}

func (a admitted) Context() context.Context { return a.ctx }

// run admits a call, runs it and logs it. What it answers is nil or a status.
func (d door) run(ctx context.Context, method string, call func(context.Context) error) error {
	began := d.cfg.Clock.Now()
	id, err := d.admit(ctx, method)
	if err == nil {
		err = safely(func() error { return call(identity.With(hideCredentials(ctx), id)) })
	}
	st := d.status(ctx, id, err)
	d.cfg.Log.LogAttrs(ctx, slog.LevelInfo, "call",
		slog.String("request_id", id.RequestID), slog.String("tenant", id.Tenant), slog.String("method", method),
		slog.String("code", st.Code().String()), slog.Float64("ms", float64(d.cfg.Clock.Now().Sub(began)/time.Microsecond)/1000))
	return st.Err()
}

func (d door) status(ctx context.Context, id identity.Identity, err error) *status.Status {
	if err == nil {
		return nil
	}
	if st, own := spoken(err); own {
		return st
	}
	o := outcome.Of(err)
	if o.Cause != nil && !outcome.Left(ctx, err) {
		d.cfg.Log.LogAttrs(ctx, slog.LevelError, "call failed",
			slog.String("request_id", id.RequestID), slog.String("tenant", id.Tenant), slog.String("error", o.Cause.Error()))
	}
	return status.New(o.GRPC, o.Message)
}

// spoken answers the status that a service which exists over gRPC alone, such as the workers' streams, gave itself. What such a status says
// of a failure of the plane is not for the caller.
func spoken(err error) (*status.Status, bool) {
	var f *fault.Error
	st, ok := status.FromError(err)
	if !ok || errors.As(err, &f) {
		return nil, false
	}
	switch st.Code() {
	case codes.Unknown, codes.Internal, codes.DataLoss, codes.Unimplemented:
		return nil, false
	}
	return st, true
}

func safely(call func() error) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fault.Wrap(fault.Internal, fmt.Errorf("panic: %v\n%s", cause, debug.Stack()), "internal error")
		}
	}()
	return call()
}

// admit asks the gate about a call. A call without x-tenant-id is for the credential's tenant.
func (d door) admit(ctx context.Context, method string) (identity.Identity, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	id := identity.Identity{RequestID: d.requestID(md)}
	if open(method) {
		return id, nil
	}
	rule, _ := auth.RuleOf(method) // without a rule it is the zero Rule, which lets nobody in
	r := auth.Request{
		Authorization: md.Get("authorization"), APIKey: md.Get("x-api-key"), Tenant: md.Get("x-tenant-id"), Principal: md.Get("x-principal-id"),
		TenantOptional: true, Address: address(ctx), ID: id.RequestID,
	}
	if strings.TrimSpace(strings.Join(r.APIKey, "")) == "" {
		r.APIKey = md.Get("api-key")
	}
	admitted, err := d.cfg.Gate.Admit(ctx, r, rule)
	admitted.RequestID = id.RequestID
	return admitted, err
}

// open says whether a method asks for no credential though the contract has no rule for it.
func open(method string) bool {
	return strings.HasPrefix(method, "/grpc.health.v1.Health/") || strings.HasPrefix(method, "/grpc.reflection.")
}

func (d door) requestID(md metadata.MD) string {
	if sent := md.Get("x-request-id"); len(sent) == 1 && auth.PlainID(sent[0]) {
		return sent[0]
	}
	return d.cfg.IDs.Hex(8)
}

func address(ctx context.Context) string {
	p, ok := peer.FromContext(ctx)
	if !ok || p.Addr == nil {
		return ""
	}
	if host, _, err := net.SplitHostPort(p.Addr.String()); err == nil {
		return host
	}
	return p.Addr.String()
}

// hideCredentials takes the credentials out of what a service can read.
func hideCredentials(ctx context.Context) context.Context {
	md, ok := metadata.FromIncomingContext(ctx)
	if !ok {
		return ctx
	}
	for _, name := range []string{"authorization", "x-api-key", "api-key"} {
		md.Delete(name)
	}
	return metadata.NewIncomingContext(ctx, md)
}
