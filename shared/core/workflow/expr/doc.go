// Package expr is the language of workflows: expressions, and the templates that carry them in ${…}. Both are pure, and bounded in length,
// depth and cost.
//
// Values are JSON trees: nil, bool, string, json.Number, []any and map[string]any. Numbers are json.Number, on the way in and on the way
// out, so that 64-bit integers survive. Values are never changed, and results share what they were made from.
//
// # Grammar
//
//	expression = and { "||" and }
//	and        = equal { "&&" equal }
//	equal      = "!" equal | unequal [ "==" equal ]      and so on for  !=  >=  <=  >  <, each binding tighter than the one before
//	operand    = "(" expression ")" | "length(" expression ")" | "first(" expression ")" | 'text' | "text" | true | false | number | path
//	path       = root { "." key }
//
// A "!" negates everything up to the next && or ||: !a == b is !(a == b). A text ends at its own quote and knows no escapes. The key of a
// path is any run of letters, digits and _ - $ @ : / # ~ [ ]: brackets are part of a key, steps.fan[0].output.x reads the key "fan[0]", and
// lists have no keys. What is not there is nil; so is every root but input, ctx, steps, item, loop_index, loop_iteration and
// loop_previous_output.
//
// # Comparison
//
// With a number on the left, the right is read as a number, and what is none is 0. Two texts compare by their bytes. Of anything else only
// == and != say something: they compare the texts that Text gives, so true == 'true'; nil equals nil alone.
//
// # Where it differs from the original
//
// Whole numbers are compared with all their digits; text of a number has no exponent below 1e21, and that of a list or an object is compact
// JSON; a quote protects what it holds; what cannot be read is an error rather than nil or true.
package expr
