// Package policy is the safety policy: the format of its documents, how they are merged, and the decision about a job.
//
// Parse reads one document and refuses whatever it does not know, with the line and column. Compile merges a base document and fragments
// into a Policy and names it by its content. Policy.Decide answers what may become of a job, Policy.Explain says why as well. Everything
// here is a pure function: there is no I/O and no clock, and a Policy never changes, so it may be shared by goroutines.
//
// The first rule that matches decides. Then restrictions have their say, none of which allows anything: the topic lists of the job's
// tenant, its MCP lists, the rules of its workflow, which may also ask for approval or throttle, and the effective configuration. No rule
// matches: default_decision, which is deny unless a document says otherwise. docs/policy.md is the guide for people who write policies.
//
// Words that are compared regardless of case are compared in lower case, without surrounding space.
package policy
