namespace SieveAttention.Cli.Cases;

/// <summary>Case files: one attention problem each, with its operator and every parameter.</summary>
internal static class CaseFile
{
    private const string Format = "sieve-case/1";

    /// <summary>Reads a case.</summary>
    /// <exception cref="CaseException">The file is not a case, or the case asks for what its operator does not have.</exception>
    public static AttentionCase Read(string path) => Parse(SafeTensorsReader.Read(path));

    /// <summary>Makes a case of the content of a file.</summary>
    /// <exception cref="CaseException">The content is not a case, or the case asks for what its operator does not have.</exception>
    public static AttentionCase Parse(SafeTensorsFile file)
    {
        CaseMetadata metadata = new(file.Name, file.Metadata);
        CaseTensors tensors = new(file.Name, file.Tensors);
        metadata.Choice("format", null, Format);
        CaseOperator attentionOperator = CaseOperator.Find(file.Name, metadata);
        metadata.Text("source");
        AttentionCase result = attentionOperator.Read(file.Name, metadata, tensors);
        metadata.RefuseUnknown();
        tensors.RefuseUnknown();
        return result;
    }
}
