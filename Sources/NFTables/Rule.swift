/// Expressions that a packet passes from left to right: a match that fails ends the rule, a
/// statement acts, a verdict decides.
package struct Rule: Hashable, Sendable {
  package var expressions: [Expression]
  /// Why the rule is there, for people; the kernel keeps it with the rule. At most
  /// `maximumCommentBytes` of UTF-8, without quotation marks.
  package var comment: String?

  /// `NFTNL_UDATA_COMMENT_MAXLEN` (128, of which one ends the text) in nftables' include/rule.h.
  package static let maximumCommentBytes = 127

  package init(_ expressions: Expression..., comment: String? = nil) {
    self.init(expressions, comment: comment)
  }

  package init(_ expressions: [Expression], comment: String? = nil) {
    self.expressions = expressions
    self.comment = comment
  }
}

extension Rule: CustomStringConvertible {
  package var description: String {
    let words = expressions.map(\.description) + (comment.map { ["comment \"\($0)\""] } ?? [])
    return words.joined(separator: " ")
  }
}
