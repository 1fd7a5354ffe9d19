// Package awsfake is a strict AWS Secrets Manager in memory, with the two calls
// of STS that go with it: AWS JSON 1.1 and the query protocol over HTTP.
//
//	fake := awsfake.New("eu-west-1")
//	store, err := aws.New(ctx, aws.Options{Region: fake.Region, Keys: fake.Keys(), HTTP: fake.Client(), Clock: fake.Clock})
//	fake.Inject(func(c awsfake.Call) awsfake.Fault { … })
//
// It keeps the rules that a client can trip over: tokens that do nothing the
// second time, staging labels that sit on one version, deletion schedules,
// names that stay taken for a while, replicas that fail, quotas, rights per
// action and resource, rates per group of calls, reads that lag behind writes.
// A validation error quotes what was sent, payloads included, as some
// emulators do: a client must not hand that on.
//
// [Fake.Client] reaches it without a network and can lose answers and
// connections exactly; [Fake.ServeHTTP] serves it to anything else. Time is
// [Clock]'s alone.
package awsfake
