namespace SieveAttention;

/// <summary>A number of keys that each row has, over many rows.</summary>
/// <param name="Name">What is counted, such as <c>view 1</c>: survivors of the first view.</param>
/// <param name="Mean">Mean over all rows.</param>
/// <param name="Largest">Largest of a row.</param>
public sealed record AttentionCount(string Name, double Mean, int Largest);
